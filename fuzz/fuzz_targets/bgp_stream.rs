//! Any bytes, in pieces of any size, are messages or one error; the buffer stays bounded.
#![no_main]

use bgp_speaker::wire::{Framer, MAX_MESSAGE_LEN};
use bytes::BufMut;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|pieces: Vec<&[u8]>| {
    let mut framer = Framer::default();
    for mut piece in pieces {
        while !piece.is_empty() {
            let mut space = framer.space();
            let taken = piece.len().min(space.remaining_mut());
            assert!(taken > 0, "the framer always has room");
            space.put_slice(&piece[..taken]);
            drop(space);
            piece = &piece[taken..];
            loop {
                match framer.next_frame() {
                    Ok(Some(frame)) => assert!(frame.body.len() < MAX_MESSAGE_LEN),
                    Ok(None) => break,
                    Err(error) => {
                        let _ = error.notification().encode();
                        return;
                    }
                }
            }
        }
    }
});
