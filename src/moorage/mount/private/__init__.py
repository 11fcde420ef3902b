"""How does one program have a mount, or a path, of its own?"""
