"""The only package that opens a URL that came from outside: inputs, webhooks, SNS.

`urls` parses strictly, `addresses` judges addresses, `resolving` looks a name up once, `connection` connects to the
address that was judged, `calls` has `fetch`, `read` and `post`. `policy` says what one kind of caller may do.
"""
