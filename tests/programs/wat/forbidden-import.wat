;; A rule like any other, except that it opens connections. Its world is in forbidden-import.wit.
(module
  ;; The import is enough for a refusal; the call prevents it from being removed as unused.
  (import "wasi:sockets/tcp@0.2.0" "connect" (func $connect (param $port i32)))

  ;; 2 MiB, more than any event needs.
  (memory (export "memory") 32)

  ;; Texts.
  (data (i32.const 0) "forbidden-import")
  (data (i32.const 32) "1.0.0")
  (data (i32.const 48) "test.hostile.v1")
  (data (i32.const 64) "Wants to open connections.")
  ;; A list of one subscription: address and length of the event type; no subject (tag, address, length).
  (data (i32.const 160) (i32 48 15  0 0 0))
  ;; The description: an address and a length each for name, version, summary, subscriptions, config, requires.
  (data (i32.const 192) (i32 0 16  32 5  64 26  160 1  0 0  0 0))

  (func (export "belfry:projector/projector@1.0.0#describe") (result i32)
    (i32.const 192))

  ;; No error: the bytes at 256 are zero, which is the tag of `ok`.
  (func (export "belfry:projector/projector@1.0.0#check-config") (result i32)
    (i32.const 256))

  ;; No notifications: the bytes at 320 are zero, which is `ok` with an empty list.
  (func (export "belfry:projector/projector@1.0.0#project") (param $event_and_context i32) (result i32)
    (call $connect (i32.const 25))
    (i32.const 320))

  ;; Allocates the memory where the host puts the event: one block after the other, each at a multiple of 8. Memory is
  ;; never freed, since the instance does not live long enough to need that. An event larger than the memory makes the
  ;; host stop the call.
  (global $free (mut i32) (i32.const 1024))
  (func (export "cabi_realloc")
    (param $old i32) (param $old_size i32) (param $align i32) (param $size i32) (result i32)
    (local $block i32)
    (local.set $block (i32.and (i32.add (global.get $free) (i32.const 7)) (i32.const -8)))
    (global.set $free (i32.add (local.get $block) (local.get $size)))
    (local.get $block)))
