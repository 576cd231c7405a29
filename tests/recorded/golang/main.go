// Changes its ids with many threads running and the runtime's preemption signals coming.
package main

import (
	"fmt"
	"net"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"
)

func main() {
	stop := make(chan bool)
	for i := 0; i < 8; i++ {
		go func() {
			runtime.LockOSThread()
			for {
				select {
				case <-stop:
					return
				default:
				}
			}
		}()
	}
	var group sync.WaitGroup
	for i := 0; i < 8; i++ {
		group.Add(1)
		go func(i int) {
			defer group.Done()
			runtime.LockOSThread()
			for j := 0; j < 50; j++ {
				name := fmt.Sprintf("d%d-%d", i, j)
				if err := os.Mkdir(name, 0755); err != nil {
					fmt.Println(err)
				}
				if err := os.Chown(name, i+1, j+1); err != nil {
					fmt.Println(err)
				}
				file, err := os.OpenFile(name+"/f", os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0600)
				if err != nil {
					fmt.Println(err)
				}
				file.Close()
			}
			listener, err := net.Listen("unix", fmt.Sprintf("s%d", i))
			if err != nil {
				fmt.Println(err)
				return
			}
			listener.(*net.UnixListener).SetUnlinkOnClose(false)
			listener.Close()
		}(i)
	}
	group.Wait()
	time.Sleep(10 * time.Millisecond)
	if err := syscall.Setgroups([]int{7, 5, 6}); err != nil {
		fmt.Println(err)
	}
	if err := syscall.Setgid(1000); err != nil {
		fmt.Println(err)
	}
	if err := os.Chmod(".", 0777); err != nil {
		fmt.Println(err)
	}
	if err := syscall.Setuid(1000); err != nil {
		fmt.Println(err)
	}
	groups, _ := syscall.Getgroups()
	fmt.Println(os.Getuid(), os.Geteuid(), os.Getgid(), os.Getegid(), groups)
	for i := 0; i < 8; i++ {
		group.Add(1)
		go func(i int) {
			defer group.Done()
			runtime.LockOSThread()
			os.Mkdir(fmt.Sprintf("u%d", i), 0755)
			listener, err := net.Listen("unix", fmt.Sprintf("us%d", i))
			if err != nil {
				fmt.Println(err)
				return
			}
			listener.(*net.UnixListener).SetUnlinkOnClose(false)
			connection, err := net.Dial("unix", fmt.Sprintf("us%d", i))
			if err == nil {
				raw, _ := connection.(*net.UnixConn).SyscallConn()
				raw.Control(func(fd uintptr) {
					peer, err := syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
					if err != nil || peer.Uid != 1000 || peer.Gid != 1000 {
						fmt.Println("peer", peer, err)
					}
				})
			}
			if err := os.Chown(fmt.Sprintf("u%d", i), 0, 0); err == nil {
				fmt.Println("a user gave a file away")
			}
			listener.Close()
		}(i)
	}
	group.Wait()
	close(stop)
}
