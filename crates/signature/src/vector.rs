//! Test vectors: rows of `{id, scheme, method, url, headers, body, secret, now, options, expect}`.
