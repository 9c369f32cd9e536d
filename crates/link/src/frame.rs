//! How a message becomes a frame and back, without any socket: `u32` length of the body (little endian), `u8` class,
//! body in postcard. Descriptors travel beside the bytes and are claimed by the frame that names them.

use std::{collections::VecDeque, io, os::fd::OwnedFd};

use serde::{Serialize, de::DeserializeOwned};

use crate::{FromWorker, ToWorker};

/// Bytes before the body: length and class.
const HEADER: usize = 5;

/// At most so many descriptors with one frame; the kernel's own limit is 253.
pub const MAX_DESCRIPTORS: usize = 128;

/// Frames that are no longer needed are cut off the front of the buffer once they fill so many bytes.
const SLACK: usize = 64 * 1024;

/// What a frame may weigh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Everything that steers. At most 64 KiB.
    Control,
    /// Prompts and vectors. At most 16 MiB.
    Data,
}

impl Class {
    /// The longest body, in bytes.
    pub const fn limit(self) -> usize {
        match self {
            Self::Control => 64 * 1024,
            Self::Data => 16 * 1024 * 1024,
        }
    }

    const fn byte(self) -> u8 {
        match self {
            Self::Control => 0,
            Self::Data => 1,
        }
    }

    const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Control),
            1 => Some(Self::Data),
            _ => None,
        }
    }
}

/// A message of one direction.
pub trait Message: Serialize + DeserializeOwned {
    /// What it may weigh.
    fn class(&self) -> Class;

    /// How many descriptors come with it.
    fn descriptors(&self) -> usize;
}

impl Message for ToWorker {
    fn class(&self) -> Class {
        match self {
            Self::Generate(_) | Self::Embed(_) => Class::Data,
            _ => Class::Control,
        }
    }

    fn descriptors(&self) -> usize {
        match self {
            Self::Inspect(order) => order.files.len(),
            Self::Load(load) => load.files.len(),
            _ => 0,
        }
    }
}

impl Message for FromWorker {
    fn class(&self) -> Class {
        match self {
            Self::Embedded { .. } => Class::Data,
            _ => Class::Control,
        }
    }

    fn descriptors(&self) -> usize {
        0
    }
}

/// Why a channel cannot be used any more, or a message cannot be sent over it.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The socket failed.
    #[error("the channel failed: {0}")]
    Io(#[from] io::Error),
    /// A body longer than its class allows.
    #[error("a frame of {length} bytes is longer than the {limit} that are allowed")]
    Oversize {
        /// As announced.
        length: usize,
        /// [`Class::limit`].
        limit: usize,
    },
    /// A class that is none.
    #[error("there is no frame class {0}")]
    UnknownClass(u8),
    /// The body is no message, has bytes left over, or came under a wrong class.
    #[error("a frame is malformed: {0}")]
    Malformed(String),
    /// The other end closed in the middle of a frame.
    #[error("the channel closed in the middle of a frame")]
    Cut,
    /// The descriptors do not match those that the frames name.
    #[error("{came} descriptors came where {named} were named")]
    Descriptors {
        /// By the message.
        named: usize,
        /// With it.
        came: usize,
    },
}

/// A message with the descriptors that it names, in its order.
#[derive(Debug)]
pub struct Received<M> {
    /// The message.
    pub message: M,
    /// One for each that it names.
    pub descriptors: Vec<OwnedFd>,
}

/// A message as a frame.
///
/// # Errors
/// [`WireError::Oversize`], or [`WireError::Descriptors`] if it names more than [`MAX_DESCRIPTORS`].
pub fn encode<M: Message>(message: &M) -> Result<Vec<u8>, WireError> {
    let (class, named) = (message.class(), message.descriptors());
    if named > MAX_DESCRIPTORS {
        return Err(WireError::Descriptors { named, came: MAX_DESCRIPTORS });
    }
    let mut frame = postcard::to_extend(message, vec![0; HEADER])
        .map_err(|error| WireError::Malformed(error.to_string()))?;
    let length = frame.len() - HEADER;
    let limit = class.limit();
    let announced = u32::try_from(length).ok().filter(|_| length <= limit);
    let announced = announced.ok_or(WireError::Oversize { length, limit })?;
    frame[..4].copy_from_slice(&announced.to_le_bytes());
    frame[4] = class.byte();
    Ok(frame)
}

/// Makes messages of bytes as they come, split anywhere. After an error it must not be used again.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    start: usize,
    descriptors: VecDeque<OwnedFd>,
}

impl Decoder {
    /// Takes bytes in, at most a read's worth at a time.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.start >= SLACK || self.start == self.buffer.len() {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// Takes descriptors in, before the bytes that they came with.
    pub fn push_descriptors(&mut self, descriptors: impl IntoIterator<Item = OwnedFd>) {
        self.descriptors.extend(descriptors);
    }

    /// Whether the other end may close now: no frame has begun.
    pub fn is_between_frames(&self) -> bool {
        self.start == self.buffer.len()
    }

    /// The next whole message, or `None` until more bytes come. A length is checked as soon as it is known, and
    /// nothing is allocated on its word.
    ///
    /// # Errors
    /// Every [`WireError`] but `Io` and `Cut`.
    pub fn take<M: Message>(&mut self) -> Result<Option<Received<M>>, WireError> {
        let waiting = &self.buffer[self.start..];
        let Some((&[a, b, c, d, class], rest)) = waiting.split_first_chunk::<HEADER>() else {
            return self.nothing_astray();
        };
        let class = Class::from_byte(class).ok_or(WireError::UnknownClass(class))?;
        let length = u32::from_le_bytes([a, b, c, d]) as usize;
        if length > class.limit() {
            return Err(WireError::Oversize { length, limit: class.limit() });
        }
        let Some(body) = rest.get(..length) else { return Ok(None) };
        let (message, left) =
            postcard::take_from_bytes::<M>(body).map_err(|error| WireError::Malformed(error.to_string()))?;
        if !left.is_empty() {
            return Err(WireError::Malformed(format!("{} bytes after its end", left.len())));
        }
        if message.class() != class {
            return Err(WireError::Malformed("it came under another message's class".into()));
        }
        let (named, came) = (message.descriptors(), self.descriptors.len());
        if named > came {
            return Err(WireError::Descriptors { named, came });
        }
        self.start += HEADER + length;
        Ok(Some(Received { message, descriptors: self.descriptors.drain(..named).collect() }))
    }

    /// Descriptors come with the first byte of their frame, so that none may be left over between frames.
    fn nothing_astray<M>(&self) -> Result<Option<Received<M>>, WireError> {
        let came = self.descriptors.len();
        let astray = came > MAX_DESCRIPTORS || (came > 0 && self.is_between_frames());
        if astray { Err(WireError::Descriptors { named: 0, came }) } else { Ok(None) }
    }
}
