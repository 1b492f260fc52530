//! The machine against hand-made events.
