// HPKE by hand from RFC 9180, for where there is no library: base mode, DHKEM(X25519, HKDF-SHA256), HKDF-SHA256,
// ChaCha20-Poly1305, nothing but the platform's javax.crypto. It opens only.
// Lines of "open PRIVATE INFO SEALED", each word in base64url without padding; one line out for each.
import java.io.BufferedReader;
import java.io.ByteArrayOutputStream;
import java.io.InputStreamReader;
import java.math.BigInteger;
import java.security.GeneralSecurityException;
import java.security.KeyFactory;
import java.security.PublicKey;
import java.security.spec.NamedParameterSpec;
import java.security.spec.XECPrivateKeySpec;
import java.security.spec.XECPublicKeySpec;
import java.util.Arrays;
import java.util.Base64;
import javax.crypto.Cipher;
import javax.crypto.KeyAgreement;
import javax.crypto.Mac;
import javax.crypto.spec.IvParameterSpec;
import javax.crypto.spec.SecretKeySpec;

public class Peer {
    static final byte[] KEM = bytes("KEM", 0x00, 0x20);                                  // suite_id of the KEM, §4.1
    static final byte[] HPKE = bytes("HPKE", 0x00, 0x20, 0x00, 0x01, 0x00, 0x03);        // suite_id of the whole, §5.1

    /** sealed is enc (32 bytes) and ciphertext; RFC 9180 §5.1.1 SetupBaseR and §5.2 Open with an empty aad. */
    static byte[] open(byte[] privateKey, byte[] info, byte[] sealed) throws GeneralSecurityException {
        byte[] enc = Arrays.copyOf(sealed, 32), ciphertext = Arrays.copyOfRange(sealed, 32, sealed.length);
        // §4.1 Decap: the agreement, bound to both public keys
        byte[] dh = x25519(privateKey, enc);
        byte[] eaePrk = labeledExtract(KEM, new byte[0], "eae_prk", dh);
        byte[] shared = labeledExpand(KEM, eaePrk, "shared_secret", join(enc, publicKey(privateKey)), 32);
        // §5.1 KeySchedule in mode_base: no psk
        byte[] context = join(new byte[1], labeledExtract(HPKE, new byte[0], "psk_id_hash", new byte[0]),
            labeledExtract(HPKE, new byte[0], "info_hash", info));
        byte[] secret = labeledExtract(HPKE, shared, "secret", new byte[0]);
        byte[] key = labeledExpand(HPKE, secret, "key", context, 32);
        byte[] nonce = labeledExpand(HPKE, secret, "base_nonce", context, 12); // of sequence number 0: as it is
        Cipher c = Cipher.getInstance("ChaCha20-Poly1305");
        c.init(Cipher.DECRYPT_MODE, new SecretKeySpec(key, "ChaCha20"), new IvParameterSpec(nonce));
        return c.doFinal(ciphertext);
    }

    /** §4: HKDF-Extract (RFC 5869 §2.2) over "HPKE-v1", suite, label and input. */
    static byte[] labeledExtract(byte[] suite, byte[] salt, String label, byte[] input) throws GeneralSecurityException {
        return hmac(salt.length == 0 ? new byte[32] : salt, join(bytes("HPKE-v1"), suite, bytes(label), input));
    }

    /** §4: HKDF-Expand (RFC 5869 §2.3); length is 32 at most, so that one block is enough. */
    static byte[] labeledExpand(byte[] suite, byte[] prk, String label, byte[] info, int length) throws GeneralSecurityException {
        byte[] labeled = join(new byte[] {0, (byte) length}, bytes("HPKE-v1"), suite, bytes(label), info);
        return Arrays.copyOf(hmac(prk, join(labeled, new byte[] {1})), length);
    }

    static byte[] hmac(byte[] key, byte[] data) throws GeneralSecurityException {
        Mac mac = Mac.getInstance("HmacSHA256");
        mac.init(new SecretKeySpec(key, "HmacSHA256"));
        return mac.doFinal(data);
    }

    static byte[] x25519(byte[] privateKey, byte[] publicKey) throws GeneralSecurityException {
        KeyFactory keys = KeyFactory.getInstance("X25519");
        KeyAgreement agreement = KeyAgreement.getInstance("X25519");
        agreement.init(keys.generatePrivate(new XECPrivateKeySpec(NamedParameterSpec.X25519, privateKey)));
        byte[] bigEndian = reversed(publicKey);
        bigEndian[0] &= 0x7f; // RFC 7748 §5
        PublicKey peer = keys.generatePublic(new XECPublicKeySpec(NamedParameterSpec.X25519, new BigInteger(1, bigEndian)));
        agreement.doPhase(peer, true);
        return agreement.generateSecret();
    }

    static byte[] publicKey(byte[] privateKey) throws GeneralSecurityException {
        byte[] nine = new byte[32];
        nine[0] = 9; // the base point of RFC 7748 §4.1
        return x25519(privateKey, nine);
    }

    static byte[] reversed(byte[] b) {
        byte[] r = new byte[b.length];
        for (int i = 0; i < b.length; i++) r[i] = b[b.length - 1 - i];
        return r;
    }

    static byte[] bytes(String s, int... more) {
        byte[] b = Arrays.copyOf(s.getBytes(), s.length() + more.length);
        for (int i = 0; i < more.length; i++) b[s.length() + i] = (byte) more[i];
        return b;
    }

    static byte[] join(byte[]... parts) {
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        for (byte[] p : parts) out.writeBytes(p);
        return out.toByteArray();
    }

    public static void main(String[] args) throws Exception {
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in));
        for (String line; (line = in.readLine()) != null; ) {
            String[] words = line.split(" ");
            byte[] out = open(Base64.getUrlDecoder().decode(words[1]), Base64.getUrlDecoder().decode(words[2]), Base64.getUrlDecoder().decode(words[3]));
            System.out.println(Base64.getUrlEncoder().withoutPadding().encodeToString(out));
        }
    }
}
