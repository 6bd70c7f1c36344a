"""ttrpc, the lightweight RPC between container engines and their shims; complete, and usable alone.

`wire` (protobuf's encoding), `protocol` (frames), `client`, `server`, `loop` (the epoll loop a server lives in) and
`task_v2` (containerd's shim task API). Nothing is imported here: a monitor pays only for what it names.
"""
