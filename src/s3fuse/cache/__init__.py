"""What has come of objects to this node, for all runs of a user, and for the runs to come.

`entries`
    One version of an object: its bytes, which of them are there, and who uses it.
`room`
    The bound of all of them together, and what goes to make room.
`place`
    Where they lie.

Any process may be killed at any moment, so nothing here waits for another one, and what
one holds is held by locks, which the kernel frees when it ends.
"""
