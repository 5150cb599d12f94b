;; Grows its table until the host refuses more elements. Each is a pointer in the host, and does not use the guest's
;; memory.
(module
  ;; 2 MiB, more than any event needs.
  (memory (export "memory") 32)
  (table $hog 0 funcref)

  ;; Texts.
  (data (i32.const 0) "table-hog")
  (data (i32.const 32) "1.0.0")
  (data (i32.const 48) "test.hostile.v1")
  (data (i32.const 64) "Takes table elements until there are no more.")
  ;; A list of one subscription: address and length of the event type; no subject (tag, address, length).
  (data (i32.const 160) (i32 48 15  0 0 0))
  ;; The description: an address and a length each for name, version, summary, subscriptions, config, requires.
  (data (i32.const 192) (i32 0 9  32 5  64 45  160 1  0 0  0 0))

  (func (export "belfry:projector/projector@1.0.0#describe") (result i32)
    (i32.const 192))

  ;; No error: the bytes at 256 are zero, which is the tag of `ok`.
  (func (export "belfry:projector/projector@1.0.0#check-config") (result i32)
    (i32.const 256))

  ;; Grows the table by 1,000 elements each time. The instruction returns -1 when growth is refused; that ends the loop,
  ;; and the rule aborts as languages do.
  (func (export "belfry:projector/projector@1.0.0#project") (param $event_and_context i32) (result i32)
    (loop $again
      (br_if $again
        (i32.ne (table.grow $hog (ref.null func) (i32.const 1000)) (i32.const -1))))
    unreachable)

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
