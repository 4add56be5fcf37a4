package rtp

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/binary"
	"errors"
	"hash"

	"reveille/rtp/sdp"
)

// Labels of the key derivation (RFC 3711 §4.3.1); those of SRTCP are three higher.
const (
	labelKey  = 0x00
	labelAuth = 0x01
	labelSalt = 0x02

	labelRTCP = 0x03
)

// errSuite says that keys do not fit their suite: a fault of our own, as the parser has seen to it.
var errSuite = errors.New("keys do not fit their SRTP suite")

// derive is the key derivation of RFC 3711 §4.3.3 with a rate of zero: n bytes for a label. The salt has 14 bytes, or
// 12 with AES-GCM (RFC 7714 §11).
func derive(master cipher.Block, salt []byte, label byte, n int) []byte {
	var counter [aes.BlockSize]byte
	copy(counter[:], salt)
	counter[7] ^= label
	out := make([]byte, (n+aes.BlockSize-1)/aes.BlockSize*aes.BlockSize)
	for i := 0; i < len(out); i += aes.BlockSize {
		binary.BigEndian.PutUint16(counter[14:], uint16(i/aes.BlockSize))
		master.Encrypt(out[i:], counter[:])
	}
	return out[:n]
}

// transform encrypts and authenticates packets with the session keys of SRTP or SRTCP. It keeps scratch memory, so that
// it does not allocate; one goroutine at a time may use it.
type transform struct {
	aead  cipher.AEAD  // of AES-GCM; nil: AES in counter mode with HMAC-SHA1
	block cipher.Block // of AES in counter mode
	auth  hash.Hash
	tag   int // bytes of the authentication tag
	salt  [16]byte

	iv, stream [aes.BlockSize]byte
	sum        [sha1.Size]byte
	word       [4]byte
	aad        [12]byte
}

// newTransform derives the session keys of a suite; label is 0, or labelRTCP. The tag of SRTCP always has 80 bits
// (RFC 3711 §5.2).
func newTransform(suite sdp.Suite, key sdp.Key, label byte) (*transform, error) {
	keyLength, saltLength := suite.Lengths()
	if keyLength == 0 || len(key) != keyLength+saltLength {
		return nil, errSuite
	}
	master, err := aes.NewCipher(key[:keyLength])
	if err != nil {
		return nil, err
	}
	salt := key[keyLength:]
	t := &transform{tag: 10}
	copy(t.salt[:], derive(master, salt, label+labelSalt, saltLength))
	if t.block, err = aes.NewCipher(derive(master, salt, label+labelKey, keyLength)); err != nil {
		return nil, err
	}
	switch suite {
	case sdp.AES128GCM, sdp.AES256GCM:
		t.aead, err = cipher.NewGCM(t.block)
		t.tag = 16
		return t, err
	case sdp.AES128CM32:
		if label != labelRTCP {
			t.tag = 4
		}
	}
	t.auth = hmac.New(sha1.New, derive(master, salt, label+labelAuth, sha1.Size))
	return t, nil
}

// xor encrypts or decrypts data in place by AES in counter mode (RFC 3711 §4.1.1). crypto/cipher does the same, but
// allocates for each packet.
func (t *transform) xor(data []byte, ssrc uint32, index uint64) {
	t.iv = t.salt
	xor32(t.iv[4:], ssrc)
	xor32(t.iv[8:], uint32(index>>16))
	t.iv[12] ^= byte(index >> 8)
	t.iv[13] ^= byte(index)
	for i := uint16(0); len(data) > 0; i++ {
		binary.BigEndian.PutUint16(t.iv[14:], i)
		t.block.Encrypt(t.stream[:], t.iv[:])
		n := min(len(data), aes.BlockSize)
		for j := range n {
			data[j] ^= t.stream[j]
		}
		data = data[n:]
	}
}

// nonce is that of AES-GCM: of SRTP (RFC 7714 §8.1), whose 48 bits of index follow the SSRC at once, and of SRTCP
// (§9.1), whose 31 bits end where those do.
func (t *transform) nonce(ssrc uint32, index uint64) []byte {
	t.iv = t.salt
	xor32(t.iv[2:], ssrc)
	t.iv[6] ^= byte(index >> 40)
	t.iv[7] ^= byte(index >> 32)
	xor32(t.iv[8:], uint32(index))
	return t.iv[:12]
}

// mac is the HMAC of data and a word behind it. The memory is the transform's.
func (t *transform) mac(data []byte, word uint32) []byte {
	binary.BigEndian.PutUint32(t.word[:], word)
	t.auth.Reset()
	_, _ = t.auth.Write(data)
	_, _ = t.auth.Write(t.word[:])
	return t.auth.Sum(t.sum[:0])[:t.tag]
}

// xor32 is an exclusive or with the big-endian bytes of v.
func xor32(b []byte, v uint32) { binary.BigEndian.PutUint32(b, binary.BigEndian.Uint32(b)^v) }
