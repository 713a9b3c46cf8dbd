// Go's TLS at both ends: `serve ADDRESS PEM` answers with what it is told, `ask ADDRESS AUTHORITY VERSION` tells.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"os"
	"time"
)

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func serve(address, file string) {
	pair, err := tls.LoadX509KeyPair(file, file)
	check(err)
	listener, err := tls.Listen("tcp", address, &tls.Config{Certificates: []tls.Certificate{pair}})
	check(err)
	fmt.Println("ready")
	for {
		connection, err := listener.Accept()
		check(err)
		go func() {
			defer connection.Close()
			io.Copy(connection, connection)
		}()
	}
}

func ask(address, file string, version uint16) {
	authority, err := os.ReadFile(file)
	check(err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority)
	config := &tls.Config{RootCAs: roots, ServerName: "oms.example", MinVersion: version, MaxVersion: version}
	connection, err := tls.Dial("tcp", address, config)
	check(err)
	connection.SetDeadline(time.Now().Add(20 * time.Second))
	_, err = connection.Write([]byte("order"))
	check(err)
	answer := make([]byte, 5)
	_, err = io.ReadFull(connection, answer)
	check(err)
	fmt.Println(string(answer))
}

func main() {
	versions := map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13}
	if os.Args[1] == "serve" {
		serve(os.Args[2], os.Args[3])
	}
	ask(os.Args[2], os.Args[3], versions[os.Args[4]])
}
