//! What the fuzz targets share: `fuzz_target!` is libFuzzer's under `cargo fuzz`, and without it (`--no-default-features`) a
//! bounded run of its own that needs neither nightly nor a C++ compiler: `make fuzz`.

pub mod bounded;

pub use libfuzzer_sys::arbitrary;
#[cfg(feature = "link")]
pub use libfuzzer_sys::fuzz_target;

/// The same target as a program that tries its corpus and mutations of it, always the same ones.
#[cfg(not(feature = "link"))]
#[macro_export]
macro_rules! fuzz_target {
    (|$input:ident: &[u8]| $body:expr) => {
        fn main() {
            $crate::bounded::run(env!("CARGO_BIN_NAME"), |$input: &[u8]| $body);
        }
    };
    (|$input:ident: $type:ty| $body:expr) => {
        fn main() {
            $crate::bounded::run(env!("CARGO_BIN_NAME"), |octets: &[u8]| {
                let source = $crate::arbitrary::Unstructured::new(octets);
                let Ok($input) = <$type as $crate::arbitrary::Arbitrary>::arbitrary_take_rest(source) else {
                    return;
                };
                $body
            });
        }
    };
}
