package doctor

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
)

// owner names the process that has a port, as far as /proc tells: those of
// other users only to root. addr is host:port, or a port.
func owner(network, addr string) string {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		port = addr
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return "another program"
	}
	suffix := fmt.Sprintf(":%04X", n)
	for _, table := range []string{network, network + "6"} {
		for inode := range inodes("/proc/net/"+table, suffix) {
			if name := holder("socket:[" + inode + "]"); name != "" {
				return name
			}
		}
	}
	return "another program (root sees which: ss -lntup)"
}

// inodes are those of the listening sockets of a table whose local address ends so.
func inodes(table, suffix string) map[string]bool {
	out := map[string]bool{}
	f, err := os.Open(table)
	if err != nil {
		return out
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		// sl local_address rem_address st … inode: proc_net(5). 0A is LISTEN, 07
		// an unconnected datagram socket.
		if c := strings.Fields(lines.Text()); len(c) > 9 && strings.HasSuffix(c[1], suffix) && (c[3] == "0A" || c[3] == "07") {
			out[c[9]] = true
		}
	}
	return out
}

// holder names a process that has a file of that name open, "" if none can be seen.
func holder(target string) string {
	links, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil {
		return ""
	}
	for _, link := range links {
		if to, err := os.Readlink(link); err != nil || to != target {
			continue
		}
		if pid := strings.Split(link, "/")[2]; pid != strconv.Itoa(os.Getpid()) || strings.HasPrefix(target, "socket:") {
			return process(pid)
		}
	}
	return ""
}

func process(pid string) string {
	name, err := os.ReadFile("/proc/" + pid + "/comm")
	if err != nil {
		return "process " + pid
	}
	return fmt.Sprintf("%s (process %s)", strings.TrimSpace(string(name)), pid)
}

func userName() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return strconv.Itoa(os.Getuid())
}
