package kernel

// Needs clang and llvm-strip (clang 14 made what is committed), and the kernel's headers of Debian's linux-libc-dev.
//go:generate sh -c "clang -O2 -g -Wall -Wextra -Wno-address-of-packed-member -target bpf -mcpu=v3 -I/usr/include/$(uname -m)-linux-gnu -DSOURCE_HASH=\"\\\"$(cat relay.c reception.h | sha256sum | cut -c1-64)\\\"\" -c relay.c -o relay.o && llvm-strip -g relay.o"
