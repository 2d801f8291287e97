"""What no honest end ever writes, one line each: none of it is an offer, a version, or a message that counts."""

# What stands where a version should be.
NO_VERSIONS = (
    *(b"null", b"true", b"false", b'"3"', b'" 3 "', b'"3.0"', b"2.9", b"-1", b"-5", b"2147483648", b"[3]", b"{}"),
    *(b"1" + b"0" * 400, b"1e999", '"\u0663"'.encode()),
)
# Likewise, but the line is no JSON with it.
NO_JSON = (b"NaN", b"-Infinity", b"03", b"'3'", b'"\\ud800"')

NO_MESSAGES = (
    b"",
    b"\r",
    b"\0",
    b"\xff\xfe",
    b"[]",
    b"3",
    b'"heartbeat"',
    b"{}",
    b'{"__name__": "heartbeat"',
    b'{"__name__": 3, "apiVersion": 3}',
    b'{"__name__": null}',
    b'{"name": "heartbeat", "apiVersion": 3}',
    b'{"__name__": "Heartbeat", "apiVersion": 3}',
    b'{"__name__": "heartbeat\\u0000", "apiVersion": 3}',
    b'{"__name__": "\\ud800", "apiVersion": 3}',
    b'{"__name__": "heartbeat", "apiVersion": 3}}',
    b'{"apiVersion": ' + b"[" * 3000 + b"]" * 3000 + b', "__name__": "heartbeat"}',
    b"{" + b" " * (1 << 20) + b"}",
)
