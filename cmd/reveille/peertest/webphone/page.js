// The phone of docs/webrtc.md under a test's orders: it does what /orders says and tells what happens to /events, each in its order.
let last = Promise.resolve();
const tell = (event, more = {}) => {
  last = last.then(() => fetch("events", { method: "POST", body: JSON.stringify({ event, ...more }) }));
};
addEventListener("error", (e) => tell("error", { why: e.message }));
addEventListener("unhandledrejection", (e) => tell("error", { why: String(e.reason) }));

// What WebRTC sends and gets is seen between the codec and the packets, and passed on as it is.
const frames = [];
let sending = false;
async function send() {
  if (sending) return;
  for (sending = true; frames.length; ) await fetch("frames", { method: "POST", body: JSON.stringify(frames.splice(0)) });
  sending = false;
}
function look(side, { readable, writable }) {
  const note = new TransformStream({
    transform(frame, out) {
      const m = frame.getMetadata();
      const data = String.fromCharCode(...new Uint8Array(frame.data));
      frames.push({ side, seq: m.sequenceNumber, time: m.rtpTimestamp ?? frame.timestamp, type: m.payloadType, data: btoa(data) });
      out.enqueue(frame);
      if (frames.length >= 10) send();
    },
  });
  readable.pipeThrough(note).pipeTo(writable).catch((e) => tell("error", { why: String(e) }));
}
let connection;
const Native = RTCPeerConnection;
window.RTCPeerConnection = function (config) {
  connection = new Native({ ...config, encodedInsertableStreams: true });
  const seen = new Set(); // after a hold the track comes again
  connection.addEventListener("track", ({ receiver }) => {
    if (!seen.has(receiver)) look("received", receiver.createEncodedStreams());
    seen.add(receiver);
  });
  for (const kind of ["connectionstatechange", "iceconnectionstatechange", "icecandidateerror"])
    connection.addEventListener(kind, (e) => tell(kind, { why: e.errorText || connection.connectionState + " " + connection.iceConnectionState }));
  return connection;
};
const { addTrack } = Native.prototype;
Native.prototype.addTrack = function (...a) {
  const sender = addTrack.apply(this, a);
  look("sent", sender.createEncodedStreams());
  return sender;
};
const { setRemoteDescription, setLocalDescription } = Native.prototype;
Native.prototype.setRemoteDescription = function (d) {
  tell("remote", { sdp: d.sdp });
  return setRemoteDescription.apply(this, arguments).catch((e) => { tell("refused", { why: String(e) }); throw e; });
};
Native.prototype.setLocalDescription = function (d) {
  if (d) tell("local", { sdp: d.sdp });
  return setLocalDescription.apply(this, arguments);
};

let call;
const orders = {
  wake: ({ account }) => {
    phone(account, {
      registered: () => tell("registered"),
      failed: (why) => tell("failed", { why }),
      ringing: (c) => {
        call = c;
        tell("ringing", { uuid: c.uuid, from: c.from, name: c.name });
      },
      talking: () => tell("talking"),
      held: (who, is) => tell(is ? "held" : "unheld", { who }),
      over: (why) => tell("over", { why }),
    });
  },
  sleep: () => location.reload(), // with all that a page takes with it: its WebSocket, without a word of SIP
  answer: () => call.answer(),
  hold: () => call.hold(true, () => tell("settled")),
  unhold: () => call.hold(false, () => tell("settled")),
  digit: ({ digit }) => call.digit(digit),
  hangUp: () => call.hangUp(),
  stats: async () => {
    const all = [];
    (await connection.getStats()).forEach((s) => all.push(JSON.stringify(s)));
    tell("stats", { why: all.join("\n") });
  },
};
const source = new EventSource("orders");
source.onmessage = ({ data }) => {
  const order = JSON.parse(data);
  try {
    orders[order.do](order);
  } catch (e) {
    tell("error", { why: order.do + ": " + e });
  }
};
source.onopen = () => tell("loaded");
