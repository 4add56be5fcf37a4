// Package pushtest has push services that behave like the real ones, for
// tests, demonstrations and real peers: HTTP/2 over TLS, as strict as the
// originals or a little more, and able to misbehave on demand.
//
//	service, _ := pushtest.NewAPNs(pushtest.Options{})
//	defer service.Close()
//	keyFile, keyID, teamID, _ := service.NewKey(dir)
//	caFile, _ := service.CAFile(dir)
//	service.AddToken(pushtest.Production, token, "com.example.phone")
//	// push.apns: endpoint: service.Endpoint(), root_ca: caFile, …
//	push := <-service.Pushes()
//
// or
//
//	service, _ := pushtest.NewFCM(pushtest.FCMOptions{})
//	file, _ := service.ServiceAccount(dir, "example-phone")
//	service.AddToken("example-phone", registrationToken)
//	// push.fcm: service_account_file: file, endpoint: service.URL(), …
//
// A service has one host or more, on loopback sockets or on any net.Listener:
// over an in-memory one it also runs in a testing/synctest bubble. HTTP/2 is
// spoken frame by frame (RFC 9113), not through net/http, so that a GOAWAY, a
// refused stream or half an answer can be had at will.
//
// What they have in common is Service. A new kind of service is a judge: what
// a request deserves by the provider's book, and how its answers look.
package pushtest
