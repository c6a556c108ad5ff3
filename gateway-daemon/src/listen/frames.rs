//! WebSocket frames of one connection ("The WebSocket Protocol", RFC 6455, 5), without sockets.
//!
//! MQTT is a stream of bytes in binary messages whose borders mean nothing ("MQTT Version 5.0", 6), so nothing is ever collected: the
//! bytes of a frame are handed on as they come, and an idle connection holds the few bytes of a frame's head and nothing else. That is why
//! this is not the library's `WebSocket`, which keeps a read buffer and joins messages before it hands them on.

/// Frames shorter than this are allowed whatever the largest packet is: a client may join packets in a frame.
const FRAME_BYTES_MIN: u64 = 1 << 20;

/// Room in a frame beside the largest packet.
const FRAME_SLACK: u64 = 1 << 10;

/// Most bytes of a control frame's body (5.5).
const CONTROL_BYTES_MAX: usize = 125;

/// Longest head of a frame: two bytes, a length of eight and a mask.
const HEAD_BYTES_MAX: usize = 14;

const CONTINUATION: u8 = 0x0;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;

/// Why a connection is closed; the number is the code of the close frame (7.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[repr(u16)]
pub(super) enum FrameFault {
    #[error("the client closed the WebSocket")]
    Closed = 1000,
    #[error("a WebSocket frame that the standard forbids")]
    Protocol = 1002,
    #[error("a text frame; MQTT is sent in binary frames")]
    Text = 1003,
    #[error("a WebSocket frame larger than a packet may be")]
    TooLarge = 1009,
}

/// What the rest of the frame under way is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Head,
    Body,
    /// A control frame with this opcode.
    Control(u8),
}

/// One connection's frames: bytes of the client in, bytes of MQTT and answers out.
pub(super) struct Frames {
    frame_bytes_max: u64,
    part: Part,
    head: [u8; HEAD_BYTES_MAX],
    head_len: usize,
    /// Bytes of the frame's body that have not come yet.
    left: u64,
    mask: [u8; 4],
    /// A message is cut into frames, and the last one has not begun.
    in_message: bool,
    control: Vec<u8>,
    closed: bool,
}

impl Frames {
    /// `packet_bytes_max`: the largest MQTT packet, which must fit into a frame.
    pub(super) fn new(packet_bytes_max: usize) -> Self {
        let packet = u64::try_from(packet_bytes_max).unwrap_or(u64::MAX);
        Self {
            frame_bytes_max: packet.saturating_add(FRAME_SLACK).max(FRAME_BYTES_MIN),
            part: Part::Head,
            head: [0; HEAD_BYTES_MAX],
            head_len: 0,
            left: 0,
            mask: [0; 4],
            in_message: false,
            control: Vec::new(),
            closed: false,
        }
    }

    /// Takes what the client sent, leaves the bytes of MQTT in its place, and adds what is to be answered.
    ///
    /// # Errors
    /// The connection is over; what is in `bytes` came before and is good. The close frame is among the answers.
    pub(super) fn take(&mut self, bytes: &mut Vec<u8>, answers: &mut Vec<u8>) -> Result<(), FrameFault> {
        let mut read = 0;
        let mut kept = 0;
        let mut outcome = Ok(());
        while read < bytes.len() && outcome.is_ok() {
            if self.part == Part::Head {
                self.head[self.head_len] = bytes[read];
                self.head_len += 1;
                read += 1;
                outcome = self.begin(answers);
            } else {
                let left = usize::try_from(self.left).unwrap_or(usize::MAX);
                let until = bytes.len().min(read.saturating_add(left));
                let body = &mut bytes[read..until];
                self.unmask(body);
                if self.part == Part::Body {
                    bytes.copy_within(read..until, kept);
                    kept += until - read;
                } else {
                    self.control.extend_from_slice(body);
                }
                read = until;
                outcome = self.end(answers);
            }
        }
        bytes.truncate(kept);
        if let Err(fault) = outcome {
            self.close(fault as u16, answers);
        }
        outcome
    }

    /// Looks at the head as far as it is there.
    fn begin(&mut self, answers: &mut Vec<u8>) -> Result<(), FrameFault> {
        let [first, second, ..] = self.head;
        if self.head_len < 2 {
            return Ok(());
        }
        let lengths = match second & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        if self.head_len == 2 {
            self.check(first, second)?;
        }
        if self.head_len < 2 + lengths + 4 {
            return Ok(());
        }
        self.left = match lengths {
            0 => u64::from(second & 0x7f),
            _ => self.head[2..2 + lengths].iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
        };
        if self.left > self.frame_bytes_max {
            return Err(FrameFault::TooLarge);
        }
        self.mask.copy_from_slice(&self.head[2 + lengths..2 + lengths + 4]);
        self.head_len = 0;
        let opcode = first & 0x0f;
        if opcode & 0x8 == 0 {
            self.in_message = first & 0x80 == 0;
            self.part = Part::Body;
        } else {
            self.part = Part::Control(opcode);
        }
        self.end(answers)
    }

    /// The first two bytes of a head.
    fn check(&self, first: u8, second: u8) -> Result<(), FrameFault> {
        let last = first & 0x80 != 0;
        let reserved = first & 0x70 != 0;
        let masked = second & 0x80 != 0;
        let right = match first & 0x0f {
            CONTINUATION => self.in_message,
            BINARY => !self.in_message,
            CLOSE | PING | PONG => last && usize::from(second & 0x7f) <= CONTROL_BYTES_MAX,
            0x1 => return Err(FrameFault::Text),
            _ => false,
        };
        if right && masked && !reserved { Ok(()) } else { Err(FrameFault::Protocol) }
    }

    /// A frame whose body is complete.
    fn end(&mut self, answers: &mut Vec<u8>) -> Result<(), FrameFault> {
        if self.left > 0 {
            return Ok(());
        }
        let part = std::mem::replace(&mut self.part, Part::Head);
        let body = std::mem::take(&mut self.control);
        match part {
            Part::Control(PING) => control(PONG, &body, answers),
            // One byte is half a code (5.5.1).
            Part::Control(CLOSE) if body.len() == 1 => return Err(FrameFault::Protocol),
            Part::Control(CLOSE) => return Err(FrameFault::Closed),
            _ => {}
        }
        Ok(())
    }

    /// Takes the mask off, which goes on where the bytes before ended.
    fn unmask(&mut self, body: &mut [u8]) {
        for (byte, mask) in body.iter_mut().zip(self.mask.iter().cycle()) {
            *byte ^= mask;
        }
        self.mask.rotate_left(body.len() % 4);
        self.left -= body.len() as u64;
    }

    /// Puts bytes of MQTT into one frame.
    pub(super) fn put(bytes: &[u8], out: &mut Vec<u8>) {
        out.push(0x80 | BINARY);
        match (u8::try_from(bytes.len()), u16::try_from(bytes.len())) {
            (Ok(short @ 0..=125), _) => out.push(short),
            (_, Ok(middle)) => {
                out.push(126);
                out.extend_from_slice(&middle.to_be_bytes());
            }
            _ => {
                out.push(127);
                out.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
            }
        }
        out.extend_from_slice(bytes);
    }

    /// Says goodbye, once.
    pub(super) fn close(&mut self, code: u16, out: &mut Vec<u8>) {
        if !std::mem::replace(&mut self.closed, true) {
            control(CLOSE, &code.to_be_bytes(), out);
        }
    }
}

/// A control frame; its body has at most [`CONTROL_BYTES_MAX`] bytes.
fn control(opcode: u8, body: &[u8], out: &mut Vec<u8>) {
    out.push(0x80 | opcode);
    // At most 125: checked in the head of what is answered.
    out.push(body.len().to_le_bytes()[0]);
    out.extend_from_slice(body);
}

/// Frames of a client, cut into pieces of a size that the first byte says: the same MQTT and the same answers come out as of one piece, and no
/// more than was put in.
pub(super) fn fuzz(input: &[u8]) {
    let Some((piece, bytes)) = input.split_first() else { return };
    let whole = fuzz_pieces(bytes, bytes.len().max(1));
    assert!(whole == fuzz_pieces(bytes, usize::from(*piece).max(1)), "a cut changes what frames hold");
    let (plain, answers, _) = whole;
    assert!(plain.len() + answers.len() <= bytes.len() + 4, "frames hold more than was sent");
}

fn fuzz_pieces(bytes: &[u8], piece: usize) -> (Vec<u8>, Vec<u8>, Result<(), FrameFault>) {
    let mut frames = Frames::new(0);
    let (mut plain, mut answers, mut outcome) = (Vec::new(), Vec::new(), Ok(()));
    for piece in bytes.chunks(piece) {
        let mut piece = piece.to_vec();
        outcome = frames.take(&mut piece, &mut answers);
        plain.append(&mut piece);
        if outcome.is_err() {
            break;
        }
    }
    (plain, answers, outcome)
}
