"""The bridge, for clients: REST and XML-RPC over two unix sockets, and the metrics that one of their paths shows.

Nothing here decides anything: a binding turns a request into an operation's name and arguments, and the bridge's
answer, or problem, into its own words. Source: docs/api.md.
"""
