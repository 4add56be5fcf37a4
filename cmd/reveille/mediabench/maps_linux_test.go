package mediabench

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// mapsOf lists the kernel's maps that a process has open: identifiers and their memory in bytes.
func mapsOf(pid int) (list map[int]int) {
	list = map[int]int{}
	names, _ := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/fdinfo/*")
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil || !strings.Contains(string(data), "\nmap_id:") {
			continue
		}
		fields := map[string]int{}
		for line := range strings.Lines(string(data)) {
			key, value, _ := strings.Cut(line, ":")
			fields[key], _ = strconv.Atoi(strings.TrimSpace(value))
		}
		list[fields["map_id"]] = fields["memlock"]
	}
	return list
}

// mapMemory is that of all maps of a process.
func mapMemory(pid int) (sum int) {
	for _, bytes := range mapsOf(pid) {
		sum += bytes
	}
	return sum
}
