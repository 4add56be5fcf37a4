package push

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// client is who reads a preset, where its source says what it reads, and what
// that is: the path of each field and the kind of its value.
type client struct {
	preset  string
	sources []string // repository and path, or the document's address
	reads   map[form]string
	lacks   map[form]string // paths that must not be there
	config  PayloadConfig
}

// clients are held against the presets. The kinds are those the client's code
// casts to: a Swift `as? String` on anything else is nil.
func clients() []client {
	return []client{{
		preset:  presetReveille,
		sources: []string{"docs/payloads.md"},
		reads: map[form]string{
			formVoIP: "aps:{} uuid:s call_id:s handle:s handle_type:s caller_name:s to:s trunk:s has_video:b verstat:s diverted_by:s issued_at:s expires_at:s headers:{} headers.X-Customer:s",
			formAlert: "aps.alert.title:s aps.alert.body:s aps.sound:s aps.mutable-content:n aps.category:s uuid:s call_id:s handle:s has_video:b " +
				"headers.X-Customer:s",
			formFCM:     "uuid:s call_id:s handle:s has_video:s issued_at:s expires_at:s headers:s",
			formWebhook: "uuid:s call_id:s handle:s has_video:b issued_at:s expires_at:s headers.X-Customer:s",
		},
		lacks: map[form]string{formFCM: "aps", formWebhook: "aps", formVoIP: "test headers.X-Secret"},
	}, {
		preset:  presetApple,
		sources: []string{"developer.apple.com/documentation/pushkit/responding-to-voip-notifications-from-pushkit"},
		reads:   map[form]string{formVoIP: "aps:{} handle:s callUUID:s", formAlert: "aps.alert:{} handle:s callUUID:s", formFCM: "handle:s callUUID:s", formWebhook: "handle:s callUUID:s"},
	}, {
		preset: presetFlutter,
		sources: []string{
			"hiennguyen92/flutter_callkit_incoming example/ios/Runner/AppDelegate.swift",
			"hiennguyen92/flutter_callkit_incoming ios/Classes/Call.swift",
			"hiennguyen92/flutter_callkit_incoming android/src/main/kotlin/com/hiennv/flutter_callkit_incoming/Call.kt",
		},
		reads: map[form]string{
			formVoIP:    "id:s nameCaller:s handle:s isVideo:b handleType:s type:n extra:{} extra.call_id:s extra.expires_at:s extra.headers.X-Customer:s",
			formAlert:   "aps.alert:{} id:s nameCaller:s handle:s isVideo:b extra:{}",
			formFCM:     "id:s nameCaller:s handle:s isVideo:s type:s extra:s",
			formWebhook: "id:s nameCaller:s handle:s type:n extra:{}",
		},
		lacks: map[form]string{formVoIP: "headers duration", formFCM: "headers"}, // Call.kt: for the avatar's request
	}, {
		preset: presetReact,
		sources: []string{
			"react-native-webrtc/react-native-voip-push-notification README.md, plugin/src/ios/appDelegate.ts",
			"react-native-webrtc/react-native-voip-push-notification ios/RNVoipPushNotification/RNVoipPushNotificationManager.m",
		},
		reads: map[form]string{formVoIP: "uuid:s callerName:s handle:s call_id:s", formAlert: "aps.alert:{} uuid:s callerName:s handle:s",
			formFCM: "uuid:s callerName:s handle:s hasVideo:s", formWebhook: "uuid:s callerName:s handle:s hasVideo:b"},
	}, {
		preset:  presetFlutterRTC,
		sources: []string{"flutter-webrtc/callkeep ios/Classes/CallKeep.m (didReceiveIncomingPushWithPayload)", "flutter-webrtc/callkeep README.md"},
		reads: map[form]string{
			formVoIP:    "uuid:s caller_id:s caller_name:s caller_id_type:s has_video:b",
			formAlert:   "aps.alert:{} uuid:s caller_id:s",
			formFCM:     "uuid:s caller_id:s caller_name:s caller_id_type:s has_video:s",
			formWebhook: "uuid:s caller_id:s caller_name:s caller_id_type:s has_video:b",
		},
		lacks: map[form]string{formVoIP: "aps"}, // CallKeep.m drops it
	}, {
		preset: presetLinphone,
		sources: []string{
			"BelledonneCommunications/flexisip src/pushnotification/apple/apple-request.cc",
			"BelledonneCommunications/flexisip src/pushnotification/firebase-v1/firebase-v1-request.cc",
			"BelledonneCommunications/liblinphone src/core/app/ios-app-delegate.mm",
			"BelledonneCommunications/linphone-iphone Classes/LinphoneAppDelegate.m",
			"BelledonneCommunications/liblinphone wrappers/java/classes/org/linphone/core/tools/firebase/FirebaseMessaging.java",
		},
		reads: map[form]string{
			formVoIP:    "aps.sound:s aps.loc-key:s aps.loc-args:[] aps.call-id:s aps.send-time:s from-uri:s display-name:s pn_ttl:n customPayload:{} customPayload.uuid:s",
			formAlert:   "aps.alert.loc-key:s aps.alert.loc-args:[] aps.mutable-content:n from-uri:s display-name:s call-id:s pn_ttl:n send-time:s customPayload.uuid:s",
			formFCM:     "from-uri:s display-name:s call-id:s sip-from:s loc-key:s loc-args:s send-time:s custom-payload:s",
			formWebhook: "from-uri:s display-name:s call-id:s sip-from:s loc-key:s loc-args:s send-time:s custom-payload:{}",
		},
		// LinphoneAppDelegate.m takes a push with another uuid than its own +sip.instance for another device's.
		lacks: map[form]string{formVoIP: "aps.uuid uuid", formAlert: "aps.uuid uuid", formFCM: "uuid", formWebhook: "uuid"},
	}, {
		preset: presetVialer,
		sources: []string{
			"VoIPGRID/vialer-middleware app/push.py",
			"VoIPGRID/vialer-ios Vialer/Push/VoIPPushPayloadTransformer.swift, Vialer/Middleware/Middleware.m",
		},
		reads: map[form]string{
			formVoIP:    "type:s unique_key:s phonenumber:s caller_id:s response_api:s message_start_time:n attempt:n",
			formAlert:   "aps.alert:{} type:s unique_key:s phonenumber:s response_api:s",
			formFCM:     "type:s unique_key:s phonenumber:s caller_id:s response_api:s message_start_time:s attempt:s",
			formWebhook: "type:s unique_key:s phonenumber:s response_api:s message_start_time:n attempt:n",
		},
		config: PayloadConfig{Template: map[string]string{"response_api": "https://middleware.example/api/call-response/"}},
	}, {
		preset:  presetAcrobits,
		sources: []string{"doc.acrobits.net/api/server/http_push.html", "doc.acrobits.net/sdk/pushes/sipisless.html"},
		reads:   map[form]string{formWebhook: "verb:s AppId:s DeviceToken:s Selector:s Id:s"},
	}, {
		preset:  presetCustom,
		sources: []string{"docs/payloads.md"},
		reads: map[form]string{
			formVoIP:    "aps:{} call.id:s call.video:b call.from:s call.at:n customer:s all:{}",
			formAlert:   "aps.alert.title:s aps.mutable-content:n call.id:s",
			formFCM:     "call.id:s call.video:s call.at:s all:s",
			formWebhook: "call.id:s call.video:b call.at:n",
		},
		config: PayloadConfig{Template: map[string]string{
			"call.id": "{{.UUID}}", "call.video": "{{json .HasVideo}}", "call.from": "{{default \"unknown\" .CallerName | upper}} <{{.URI}}>",
			"call.at": "{{json .IssuedAt.Unix}}", "customer": "{{.Header \"x-customer\"}}", "all": "{{json .Headers}}",
			"urgent": "{{if and .HasVideo (not .Test)}}video{{else}}audio{{end}}",
		}},
	}}
}

// formNames name the golden files.
func formNames() map[form]string {
	return map[form]string{formVoIP: "voip", formAlert: "alert", formFCM: "fcm", formWebhook: "webhook"}
}

// TestPresets holds every preset in every form against its golden file, and
// that against what the clients' sources read. UPDATE=1 writes the files anew.
func TestPresets(t *testing.T) {
	var covered []string
	for _, c := range clients() {
		covered = append(covered, c.preset)
		if len(c.sources) == 0 {
			t.Errorf("%s: no source is named", c.preset)
		}
		for f, name := range formNames() {
			t.Run(c.preset+"."+name, func(t *testing.T) { c.hold(t, f, name) })
		}
	}
	if !slices.Equal(covered, presetNames()) {
		t.Errorf("presets %q, held %q", presetNames(), covered)
	}
}

func (c client) hold(t *testing.T, f form, name string) {
	cfg := c.config
	cfg.Payload, cfg.Headers = c.preset, []string{"X-Customer"}
	l, err := newLayout(cfg, f)
	file := filepath.Join("testdata/payload", c.preset+"."+name+".json")
	if c.reads[f] == "" {
		if _, there := os.Stat(file); err == nil || there == nil {
			t.Errorf("no client reads this form, but there is one: %v", err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	m := callMessage()
	m.Headers = map[string]string{"X-Customer": "4711 Ünï", "X-Secret": "not listed"}
	body, shortened, err := l.build(m, Target{Param: "com.example.softphone", PRID: "dG9rZW4=&12869E0E:7C3A0D14"})
	if err != nil || shortened != nil {
		t.Fatal(err, shortened)
	}
	holdGolden(t, file, body)
	var value map[string]any
	if err := json.Unmarshal(body, &value); err != nil {
		t.Fatal(err)
	}
	for want := range strings.FieldsSeq(c.reads[f]) {
		path, kind, _ := strings.Cut(want, ":")
		if got := kindAt(value, path, f); got != kind {
			t.Errorf("%s is %q, the client reads %q", path, got, kind)
		}
	}
	for path := range strings.FieldsSeq(c.lacks[f]) {
		if got := kindAt(value, path, f); got != "" {
			t.Errorf("%s is there", path)
		}
	}
}

func holdGolden(t *testing.T, file string, body []byte) {
	t.Helper()
	var indented bytes.Buffer
	if err := json.Indent(&indented, body, "", "  "); err != nil {
		t.Fatalf("%v in %s", err, body)
	}
	indented.WriteByte('\n')
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(file, indented.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil || !bytes.Equal(indented.Bytes(), want) {
		t.Errorf("%s: got\n%s\nwant\n%s (%v)", file, indented.Bytes(), want, err)
	}
}

// kindAt is what kind of value stands at a path; "" is none.
func kindAt(value map[string]any, path string, f form) string {
	steps := strings.Split(path, ".")
	if f == formFCM {
		steps = []string{path}
	}
	var at any = value
	for _, step := range steps {
		object, _ := at.(map[string]any)
		at = object[step]
	}
	switch at.(type) {
	case string:
		return "s"
	case bool:
		return "b"
	case float64:
		return "n"
	case []any:
		return "[]"
	case map[string]any:
		return "{}"
	}
	return ""
}

// TestGoldenFilesAreHeld: no file is left of a preset or a form that is gone.
func TestGoldenFilesAreHeld(t *testing.T) {
	files, err := filepath.Glob("testdata/payload/*")
	if err != nil || len(files) < 30 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		preset, rest, _ := strings.Cut(filepath.Base(file), ".")
		name, _ := strings.CutSuffix(rest, ".json")
		if !slices.Contains(presetNames(), preset) || !slices.Contains(slices.Collect(maps.Values(formNames())), name) {
			t.Errorf("%s belongs to nothing", file)
		}
	}
}
