# HPKE by OpenSSL's primitives, through python3's cryptography (48 or later).
# Lines of "open PRIVATE INFO SEALED" or "seal PUBLIC INFO PLAINTEXT", each word in base64url without padding; one line out for each.
import base64, sys
from cryptography.hazmat.primitives.asymmetric import x25519
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

suite = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)
for line in sys.stdin:
    verb, *words = line.split(" ")
    key, info, data = (base64.urlsafe_b64decode(w.strip() + "==") for w in words)
    if verb == "open":
        out = suite.decrypt(data, x25519.X25519PrivateKey.from_private_bytes(key), info)
    else:
        out = suite.encrypt(data, x25519.X25519PublicKey.from_public_bytes(key), info)
    print(base64.urlsafe_b64encode(out).decode().rstrip("="))
