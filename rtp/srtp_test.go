package rtp

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"testing"

	"reveille/rtp/rtptest"
	"reveille/rtp/sdp"
)

// unhex reads hexadecimal digits, spaces between them.
func unhex(t *testing.T, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(string(bytes.Join(bytes.Fields([]byte(text)), nil)))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// roomy is a copy of a packet in a buffer like that of a reader.
func roomy(packet []byte) []byte { return append(make([]byte, 0, maxPacket), packet...) }

// RFC 3711 appendix B.3.
func TestSRTPKeyDerivationOfTheRFC(t *testing.T) {
	master, err := aes.NewCipher(unhex(t, "E1F97A0D3E018BE0D64FA32C06DE4139"))
	if err != nil {
		t.Fatal(err)
	}
	salt := unhex(t, "0EC675AD498AFEEBB6960B3AABE6")
	for label, want := range []string{
		labelKey:  "C61E7A93744F39EE10734AFE3FF7A087",
		labelAuth: "CEBE321F6FF7716B6FD4AB49AF256A156D38BAA48F0A0ACF3C34E2359E6CDBCEE049646C43D9327AD175578EF72270986371C10C9A369AC2F94A8C5FBCDDDC256D6E919A48B610EF17C2041E47403576",
		labelSalt: "30CBBC08863D8C85D49DB34A9AE1",
	} {
		if got := derive(master, salt, byte(label), len(want)/2); !bytes.Equal(got, unhex(t, want)) {
			t.Errorf("label %d: %X, want %s", label, got, want)
		}
	}
}

// RFC 3711 appendix B.2, the first blocks.
func TestSRTPCounterModeOfTheRFC(t *testing.T) {
	block, err := aes.NewCipher(unhex(t, "2B7E151628AED2A6ABF7158809CF4F3C"))
	if err != nil {
		t.Fatal(err)
	}
	c := &transform{block: block}
	copy(c.salt[:], unhex(t, "F0F1F2F3F4F5F6F7F8F9FAFBFCFD"))
	got := make([]byte, 48)
	c.xor(got, 0, 0)
	want := unhex(t, "E03EAD0935C95E80E166B16DD92B4EB4 D23513162B02D0F72A43A2FE4A5F97AB 41E95B3BB0A2E8DD477901E4FCA894C0")
	if !bytes.Equal(got, want) {
		t.Errorf("%X, want %X", got, want)
	}
}

// RFC 7714 sections 16.1.1, 16.2.1, 17.1 and 17.3.
func TestSRTPGaloisCounterModeOfTheRFC(t *testing.T) {
	rtp := unhex(t, "8040f17b 8041f8d3 5501a0b2 47616c6c 69612065 7374206f 6d6e6973 20646976 69736120 696e2070 61727465 73207472 6573")
	rtcp := unhex(t, "81c8000d 4d617273 4e545031 4e545032 52545020 0000042a 0000e930 4c756e61 deadbeef deadbeef deadbeef deadbeef deadbeef")
	for key, want := range map[string][2]string{
		"00010203 04050607 08090a0b 0c0d0e0f": {
			"8040f17b 8041f8d3 5501a0b2 f24de3a3 fb34de6c acba861c 9d7e4bca be633bd5 0d294e6f 42a5f47a 51c7d19b 36de3adf 8833899d 7f27beb1 6a9152cf 765ee439 0cce",
			"81c8000d 4d617273 63e94885 dcdab67c a727d766 2f6b7e99 7ff5c0f7 6c06f32d c676a5f1 730d6fda 4ce09b46 86303ded 0bb9275b c84aa458 96cf4d2f c5abf872 45d9eade 800005d4",
		},
		"00010203 04050607 08090a0b 0c0d0e0f 10111213 14151617 18191a1b 1c1d1e1f": {
			"8040f17b 8041f8d3 5501a0b2 32b1de78 a822fe12 ef9f78fa 332e33aa b1801238 9a58e2f3 b50b2a02 76ffae0f 1ba63799 b87b7aa3 db36dfff d6b0f9bb 7878d7a7 6c13",
			"81c8000d 4d617273 d50ae4d1 f5ce5d30 4ba297e4 7d470c28 2c3ece5d bffe0a50 a2eaa5c1 110555be 8415f658 c61de047 6f1b6fad 1d1eb30c 4446839f 57ff6f6c b26ac3be 800005d4",
		},
	} {
		block, err := aes.NewCipher(unhex(t, key))
		if err != nil {
			t.Fatal(err)
		}
		aead, err := cipher.NewGCM(block)
		if err != nil {
			t.Fatal(err)
		}
		c := &transform{aead: aead, tag: 16}
		copy(c.salt[:], unhex(t, "51756964 2070726f 2071756f"))
		k := &keyed{rtp: c, rtcp: c}
		k.keep(srtpSource{ssrc: 0x4d617273, reportIndex: 0x5d3})
		for i, packet := range [][]byte{rtp, rtcp} {
			if got, err := k.seal(roomy(packet)); err != nil || !bytes.Equal(got, unhex(t, want[i])) {
				t.Errorf("sealed\n%x, %v, want\n%s", got, err, want[i])
			}
			if got, err := (&keyed{rtp: c, rtcp: c}).open(unhex(t, want[i]), 0); err != nil || !bytes.Equal(got, packet) {
				t.Errorf("opened\n%x, %v, want\n%x", got, err, packet)
			}
		}
	}
}

// ends are ours and that of another implementation, with the keys of one suite.
func ends(t *testing.T, suite string) (in, out *keyed, other *rtptest.SRTP) {
	t.Helper()
	other = &rtptest.SRTP{Suite: suite, Seed: 5}
	theirs, err := sdp.ParseCrypto(other.Line()[len("crypto:"):])
	if err != nil {
		t.Fatal(err)
	}
	ours := sdp.Crypto{Tag: theirs.Tag, Suite: theirs.Suite, Key: newKey(theirs.Suite)}
	line := fmt.Sprintf("a=crypto:%d %s inline:%s\r\n", ours.Tag, ours.Suite, base64.StdEncoding.EncodeToString(ours.Key))
	if err := other.Hear([]byte(line)); err != nil {
		t.Fatal(err)
	}
	if in, err = newKeyed(theirs); err != nil {
		t.Fatal(err)
	}
	if out, err = newKeyed(ours); err != nil {
		t.Fatal(err)
	}
	return in, out, other
}

var suites = []string{"AES_CM_128_HMAC_SHA1_80", "AES_CM_128_HMAC_SHA1_32", "AEAD_AES_128_GCM", "AEAD_AES_256_GCM"}

// Each suite against pion/srtp: over the end of the sequence numbers, out of order, with extension and contributing
// sources, and RTCP.
func TestSRTPAgainstAnotherImplementation(t *testing.T) {
	for _, suite := range suites {
		t.Run(suite, func(t *testing.T) {
			in, out, other := ends(t, suite)
			talker := rtptest.Talker{SSRC: 9, Payload: 8, Seq: 65500}
			var packets [][]byte
			for i := range 100 {
				packets = append(packets, talker.Next(bytes.Repeat([]byte{byte(i)}, i)))
			}
			packets[3], packets[7] = packets[7], packets[3]
			packets[40], packets[34] = packets[34], packets[40] // about the end of the numbers
			extended := append([]byte{0x92, 8, 0, 120, 0, 0, 0, 1, 0, 0, 0, 9, 1, 1, 1, 1, 2, 2, 2, 2, 0xbe, 0xde, 0, 1, 0x10, 1, 0, 0}, "speech"...)
			packets = append(packets, extended, sr(9, 1), rr(9, 1, 2, 3), sr(10, 1))
			for i, packet := range packets {
				sealed, err := out.seal(roomy(packet))
				if err != nil {
					t.Fatal(i, err)
				}
				if got, err := other.Open(sealed); err != nil || !bytes.Equal(got, packet) {
					t.Fatalf("packet %d arrives as %x, %v", i, got, err)
				}
				if sealed, err = other.Seal(packet); err != nil {
					t.Fatal(err)
				}
				if got, err := in.open(roomy(sealed), 0); err != nil || !bytes.Equal(got, packet) {
					t.Fatalf("packet %d is opened as %x, %v", i, got, err)
				}
			}
			if s := out.source(9); s.rtp.highest>>16 != 1 {
				t.Errorf("%d rounds", s.rtp.highest>>16)
			}
		})
	}
}

func TestSRTPRefusesForgedAndReplayedPackets(t *testing.T) {
	for _, suite := range suites {
		in, _, other := ends(t, suite)
		talker := rtptest.Talker{SSRC: 9, Payload: 8, Seq: 1000}
		for _, packet := range [][]byte{talker.Next([]byte("one")), talker.Next([]byte("two")), sr(9, 7)} {
			sealed, err := other.Seal(packet)
			if err != nil {
				t.Fatal(err)
			}
			for i := range sealed {
				forged := roomy(sealed)
				if forged[i] ^= 4; !mayBeSecret(forged) || isRTCP(forged) != isRTCP(sealed) {
					continue
				}
				if _, err := in.open(forged, 0); err == nil {
					t.Errorf("%s: a packet with byte %d changed was opened", suite, i)
				}
			}
			for n := range sealed {
				if short := roomy(sealed[:n]); mayBeSecret(short) {
					if _, err := in.open(short, 0); err == nil {
						t.Errorf("%s: %d bytes of a packet were opened", suite, n)
					}
				}
			}
			if len(in.sources) > 1 {
				t.Fatal("forged packets are remembered")
			}
			if _, err := in.open(roomy(sealed), 0); err != nil {
				t.Fatal(err)
			}
			if _, err := in.open(roomy(sealed), 0); !errors.Is(err, errReplayed) {
				t.Errorf("%s: a replayed packet: %v", suite, err)
			}
		}
		var late []byte
		for i := range 70 {
			sealed, _ := other.Seal(talker.Next([]byte("more")))
			if i == 0 {
				late = sealed
			} else if _, err := in.open(roomy(sealed), 0); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := in.open(late, 0); !errors.Is(err, errReplayed) {
			t.Errorf("a packet older than the window: %v", err)
		}
	}
}

// A key stream serves once: the same number again, with other contents, is not sent (RFC 3711 §9.1).
func TestSRTPNeverUsesAKeyStreamTwice(t *testing.T) {
	_, out, _ := ends(t, suites[0])
	talker := rtptest.Talker{SSRC: 9, Payload: 8}
	first := talker.Next([]byte("one thing"))
	again := append(first[:12:12], "or another"...)
	if _, err := out.seal(roomy(first)); err != nil {
		t.Fatal(err)
	}
	if _, err := out.seal(roomy(again)); !errors.Is(err, errReplayed) {
		t.Errorf("sealed again: %v", err)
	}
	if _, err := out.seal(bytes.Clone(talker.Next([]byte("no room")))[:19:19]); !errors.Is(err, errRoom) {
		t.Errorf("sealed into no room: %v", err)
	}
	for ssrc := range uint32(2 * maxSources) { // however many others come in between
		talker.SSRC = 100 + ssrc
		if _, err := out.seal(roomy(talker.Next([]byte("x")))); (err == nil) != (ssrc < maxSources-1) {
			t.Fatalf("source %d: %v", ssrc, err)
		}
	}
	if _, err := out.seal(roomy(again)); !errors.Is(err, errReplayed) {
		t.Errorf("sealed again after many sources: %v", err)
	}
	if _, err := out.seal(roomy(sr(7, 1))); !errors.Is(err, errSpent) || len(out.sources) != maxSources {
		t.Errorf("%d sources are kept, and another one's report: %v", len(out.sources), err)
	}
	if l := out.latest(); len(l) != latestSources || l[len(l)-1].ssrc != 100+maxSources-2 {
		t.Errorf("another key goes on with %d sources, the latest %d", len(l), l[len(l)-1].ssrc)
	}
}

func TestSRTPDoesNotAllocate(t *testing.T) {
	for _, suite := range suites {
		in, out, other := ends(t, suite)
		packet := roomy(make([]byte, 172))
		packet[0], packet[1] = 2<<6, 8
		seq := uint16(0)
		if n := testing.AllocsPerRun(1000, func() {
			seq++
			binary.BigEndian.PutUint16(packet[2:], seq)
			if _, err := out.seal(packet); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations per packet sealed", suite, n)
		}
		var sealed [][]byte
		for i := range 1001 {
			binary.BigEndian.PutUint16(packet[2:], uint16(i))
			p, _ := other.Seal(packet)
			sealed = append(sealed, p)
		}
		if n := testing.AllocsPerRun(1000, func() {
			p := sealed[0]
			sealed = sealed[1:]
			if _, err := in.open(p, 0); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations per packet opened", suite, n)
		}
	}
}

func FuzzSRTP(f *testing.F) {
	f.Add([]byte{0x92, 8, 0, 120, 0, 0, 0, 1, 0, 0, 0, 9, 1, 1, 1, 1, 2, 2, 2, 2, 0xbe, 0xde, 0, 1, 0x10, 1, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10})
	f.Add(rr(1, 2, 3, 4))
	f.Fuzz(func(t *testing.T, packet []byte) {
		if len(packet) > maxPacket || !mayBeSecret(packet) {
			return
		}
		for _, suite := range sdp.Offered() {
			k, err := newKeyed(sdp.Crypto{Suite: suite, Key: newKey(suite)})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := k.open(roomy(packet), 0); err == nil {
				t.Error("opened without the key")
			}
		}
	})
}
