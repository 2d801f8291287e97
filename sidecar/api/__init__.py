"""What the daemon can be asked, described once: versions, operations, results, problems.

The bridge (``engine.bridge``) does what stands here, the bindings translate it, the client (``sidecar.client``) calls
it, and the documents of OpenAPI are made from it. Pure, and of the standard library alone: the command line starts with
it.
"""
