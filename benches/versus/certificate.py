"""The certificate of every proxy's TLS side, and what makes all of them agree on the same primitives.

TLS 1.3 with X25519, ECDSA on P-256 and AES-128-GCM. What is agreed is the client's choice, so wrk's OpenSSL is told by a
configuration file of its own to offer nothing else.
"""

import subprocess

CLIENT = """openssl_conf = root
[root]
ssl_conf = ssl
[ssl]
system_default = defaults
[defaults]
MinProtocol = TLSv1.3
Ciphersuites = TLS_AES_128_GCM_SHA256
Groups = X25519
"""


def prepare(directory):
    """Writes `server.key`, `server.pem`, both in `both.pem` as HAProxy wants it, and wrk's `openssl.cnf`."""
    key, certificate = directory / "server.key", directory / "server.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", "/CN=versus.example", "-addext", "subjectAltName=DNS:versus.example", "-keyout", key, "-out", certificate],
        check=True, capture_output=True)
    (directory / "both.pem").write_text(certificate.read_text() + key.read_text())
    (directory / "openssl.cnf").write_text(CLIENT)
