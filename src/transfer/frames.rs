//! Frames over a lane: one message or the head of one piece at a time.

use crate::codec::CodecFault;
use crate::limits::WORKING_EVERY;
use crate::transport::{Lane, Purpose, TransportError};
use crate::wire::{
    Encoding, FRAME_HEADER_BYTES, FrameFault, FrameHeader, Message, MessageFault, PIECE_ADDRESS_BYTES, Piece, Refusal,
};
use std::time::{Duration, Instant};

/// How long somebody who was turned away may take to read why.
const REFUSAL_PATIENCE: Duration = Duration::from_secs(2);

/// What is next on a lane.
#[derive(Debug)]
pub(super) enum Incoming {
    /// A whole message.
    Message(Message),
    /// A piece's address; its payload is still on the lane.
    Piece {
        /// Where it belongs.
        piece: Piece,
        /// How its payload stands for the bytes.
        encoding: Encoding,
        /// Length of the payload, as checked for that encoding.
        payload_bytes: u32,
    },
}

/// Why a lane can carry no further frame.
#[derive(Debug, thiserror::Error)]
pub(super) enum LaneFault {
    /// The other side sent something that is not a frame.
    #[error(transparent)]
    Frame(#[from] FrameFault),
    /// The other side sent a compressed piece that is none.
    #[error(transparent)]
    Payload(#[from] CodecFault),
    /// The connection.
    #[error(transparent)]
    Transport(#[from] TransportError),
}

/// Reads the next frame, up to a piece's payload.
pub(super) fn read_frame(lane: &mut Lane) -> Result<Incoming, LaneFault> {
    let mut header = [0; FRAME_HEADER_BYTES];
    lane.read_exact(&mut header)?;
    match FrameHeader::decode(&header)? {
        FrameHeader::Message { body_bytes } => {
            let mut body = vec![0; body_bytes];
            lane.read_exact(&mut body)?;
            Ok(Incoming::Message(Message::decode(&body).map_err(FrameFault::from)?))
        }
        FrameHeader::Piece { encoding, payload_bytes } => {
            let mut address = [0; PIECE_ADDRESS_BYTES];
            lane.read_exact(&mut address)?;
            let piece = Piece::decode(&address, encoding, payload_bytes)?;
            Ok(Incoming::Piece { piece, encoding, payload_bytes })
        }
    }
}

/// Turns a lane away with the reason, and gives the other end a moment to read it.
pub(super) fn refuse(mut lane: Lane, purpose: Purpose, refusal: Refusal) {
    // However slowly it speaks, it is listened to for no longer.
    lane.set_deadline(Instant::now() + REFUSAL_PATIENCE);
    if purpose == Purpose::Control {
        // It greets first, and finds the lane closed where it has not done so yet. That is all that it is heard for.
        let _ = read_frame(&mut lane);
    }
    let until = Instant::now() + REFUSAL_PATIENCE;
    lane.set_deadline(until);
    // Whether it hears why or only the close is the same to this side.
    if send_message(&mut lane, &Message::Refused { refusal }).is_err() || lane.close().is_err() {
        return;
    }
    while Instant::now() < until && read_frame(&mut lane).is_ok() {}
}

/// Turns a receiver away. Whether it hears why or only the close is the same to this side.
pub(super) fn say_no(lane: &mut Lane, refusal: Refusal) {
    lane.set_silence_limit(WORKING_EVERY);
    let _ = send_message(lane, &Message::Refused { refusal });
    let _ = lane.close();
}

/// Sends one message.
pub(super) fn send_message(lane: &mut Lane, message: &Message) -> Result<(), LaneFault> {
    let frame = message.to_frame().map_err(|fault: MessageFault| FrameFault::Message(fault))?;
    Ok(lane.send(&[&frame])?)
}
