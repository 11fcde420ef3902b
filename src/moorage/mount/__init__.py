"""How a branch, a tag or a snapshot becomes a read-only directory of the operating system.

`view` is the file system without any protocol; `kernel` speaks the FUSE protocol on `/dev/fuse` and `libfuse` goes
through libfuse, both thin over the view. `serve` mounts and unmounts, `registry` knows what is mounted, `doctor` says
what a machine lacks.
"""
