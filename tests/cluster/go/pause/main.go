// Command pause keeps a pod's namespaces while its containers come and go, and ends at once when
// it is told to. As the pod's first process it also collects what its children leave.
package main

import (
	"os"
	"os/signal"
	"syscall"
)

func collect() {
	for {
		if pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); pid <= 0 || err != nil {
			return
		}
	}
}

func main() {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGCHLD)
	for received := range signals {
		if received != syscall.SIGCHLD {
			return
		}
		collect()
	}
}
