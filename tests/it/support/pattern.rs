//! Long streams that are cheap to generate and verify: no two blocks are equal, and the whole has a SHA-256 sum.

#![allow(clippy::unwrap_used, reason = "a test may end in a panic")]

use std::io::{self, Read, Write};

use ring::digest::{Context, SHA256};

/// Bytes that differ from block to block by a number inside.
const BLOCK: usize = 1 << 20;

/// A stream of `length` bytes; another seed gives another stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Pattern {
    pub(crate) seed: u64,
    pub(crate) length: u64,
}

/// Length and checksum of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sum {
    pub(crate) length: u64,
    pub(crate) sha256: Vec<u8>,
}

impl Pattern {
    /// Passes on the stream in pieces of at most `piece` bytes.
    pub(crate) fn each(
        self,
        piece: usize,
        mut with: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut block = noise(self.seed);
        let mut left = self.length;
        let mut number = 0u64;
        while left > 0 {
            block[BLOCK / 2..][..8].copy_from_slice(&number.to_be_bytes());
            number += 1;
            let here = usize::try_from(left.min(BLOCK as u64)).unwrap();
            for piece in block[..here].chunks(piece) {
                with(piece)?;
            }
            left -= here as u64;
        }
        Ok(())
    }

    /// Writes the stream, `piece` bytes at a time.
    pub(crate) fn write(self, mut to: impl Write, piece: usize) -> io::Result<()> {
        self.each(piece, |piece| to.write_all(piece))
    }

    /// The sum that a receiver of the whole stream must compute.
    pub(crate) fn sum(self) -> Sum {
        let mut context = Context::new(&SHA256);
        self.each(BLOCK, |piece| {
            context.update(piece);
            Ok(())
        })
        .unwrap();
        Sum {
            length: self.length,
            sha256: context.finish().as_ref().to_vec(),
        }
    }
}

/// Reads to the end of the stream, `piece` bytes at a time at most.
pub(crate) fn read_sum(mut from: impl Read, piece: usize) -> io::Result<Sum> {
    let mut context = Context::new(&SHA256);
    let mut buffer = vec![0; piece];
    let mut length = 0;
    loop {
        match from.read(&mut buffer)? {
            0 => break,
            read => {
                context.update(&buffer[..read]);
                length += read as u64;
            }
        }
    }
    Ok(Sum {
        length,
        sha256: context.finish().as_ref().to_vec(),
    })
}

fn noise(seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut block = Vec::with_capacity(BLOCK);
    while block.len() < BLOCK {
        // Marsaglia's xorshift, 64 bits.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        block.extend_from_slice(&state.to_be_bytes());
    }
    block
}
