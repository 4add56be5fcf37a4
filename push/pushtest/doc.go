// Package pushtest is a push service that behaves like Apple's, for tests,
// demonstrations and real peers: HTTP/2 over TLS, as strict as APNs or a little
// more, and able to misbehave on demand.
//
//	service, _ := pushtest.NewAPNs(pushtest.Options{})
//	defer service.Close()
//	keyFile, keyID, teamID, _ := service.NewKey(dir)
//	caFile, _ := service.CAFile(dir)
//	service.AddToken(pushtest.Production, token, "com.example.phone")
//	// push.apns: endpoint: service.Endpoint(), root_ca: caFile, …
//	push := <-service.Pushes()
//
// It has two hosts, one for each environment, on loopback sockets or on any
// net.Listener: over an in-memory one it also runs in a testing/synctest
// bubble. HTTP/2 is spoken frame by frame (RFC 9113), not through net/http, so
// that a GOAWAY, a refused stream or half an answer can be had at will.
package pushtest
