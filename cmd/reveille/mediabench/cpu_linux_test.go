package mediabench

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// usage is processor time used until a moment.
type usage struct {
	system time.Duration // by the whole machine: all that was not idle
	row    time.Duration // by the process that is measured
	tasks  time.Duration // by it, the generator, and the kernel's threads for packets
}

// used reads the processor time used until now. A pid of 0 is no process.
func used(row, generator int, kernel []int) usage {
	u := usage{system: busy(), row: threads(row)}
	u.tasks = u.row + threads(generator)
	for _, pid := range kernel {
		u.tasks += threads(pid)
	}
	return u
}

func (u usage) since(o usage) usage {
	return usage{system: u.system - o.system, row: u.row - o.row, tasks: u.tasks - o.tasks}
}

// ticks a second of /proc/stat, on every architecture that Go knows.
const userHz = 100

// busy is the time that processors were not idle: what has gone by, less idle, waiting for disks, and stolen time.
func busy() time.Duration {
	data, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	line, rest, _ := strings.Cut(string(data), "\n")
	fields := strings.Fields(line)
	var idle uint64
	for _, i := range []int{4, 5, 8} { // idle, iowait, steal
		n, _ := strconv.ParseUint(fields[i], 10, 64)
		idle += n
	}
	// The idle fields come from exact times, those of use only from samples at each tick.
	gone := time.Duration(monotonic()) * time.Duration(strings.Count("\n"+rest, "\ncpu"))
	return gone - time.Duration(idle)*time.Second/userHz
}

// threads sums the processor time of a process's threads, in nanoseconds. None ends during a window.
func threads(pid int) time.Duration {
	if pid == 0 {
		return 0
	}
	list, _ := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/task/*/schedstat")
	var sum time.Duration
	for _, name := range list {
		sum += schedstat(name)
	}
	return sum
}

func schedstat(name string) time.Duration {
	data, err := os.ReadFile(name)
	if err != nil {
		return 0
	}
	first, _, _ := bytes.Cut(data, []byte(" "))
	n, _ := strconv.ParseInt(string(first), 10, 64)
	return time.Duration(n)
}

// findKsoftirqd lists the kernel's threads that handle packets when there are too many.
func findKsoftirqd() (pids []int) {
	list, _ := filepath.Glob("/proc/[0-9]*/comm")
	for _, name := range list {
		if data, err := os.ReadFile(name); err == nil && bytes.HasPrefix(data, []byte("ksoftirqd/")) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(name)))
			pids = append(pids, pid)
		}
	}
	return pids
}

// monotonic is the time since the machine started, in nanoseconds.
func monotonic() int64 {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &t)
	return t.Nano()
}

// resident is the memory of a process in RAM.
func resident(pid int) int {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/statm")
	if err != nil {
		return 0
	}
	pages, _ := strconv.Atoi(strings.Fields(string(data))[1])
	return pages * os.Getpagesize()
}
