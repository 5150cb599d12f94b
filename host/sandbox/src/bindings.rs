//! The contract in `wit/` as Rust types.
#![allow(missing_docs, unreachable_pub)]

wasmtime::component::bindgen!({
    path: "../../wit",
    world: "notification-projector",
    imports: { default: trappable },
});
