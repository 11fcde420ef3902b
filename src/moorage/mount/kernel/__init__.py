"""The FUSE protocol of the Linux kernel, spoken directly on `/dev/fuse`, without libfuse.

`wire` is bytes, `connect` mounts and unmounts, `session` reads requests and writes replies, `operations` answers them
from the view.

Source: `include/uapi/linux/fuse.h` and `fs/fuse/` of Linux.
"""
