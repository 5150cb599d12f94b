;; Never reaches its first call: instantiating it takes forever.
;;
;; A host that limits only the calls to a rule, but not its instantiation, hangs as soon as this is uploaded.
(module
  (memory (export "memory") 1)

  (func $forever
    (loop $again
      (br $again)))
  (start $forever)

  ;; The functions of the contract exist; otherwise this would not be a rule.
  (func (export "belfry:projector/projector@1.0.0#describe") (result i32)
    unreachable)
  (func (export "belfry:projector/projector@1.0.0#check-config") (result i32)
    unreachable)
  (func (export "belfry:projector/projector@1.0.0#project") (param $event_and_context i32) (result i32)
    unreachable)
  (func (export "cabi_realloc")
    (param $old i32) (param $old_size i32) (param $align i32) (param $size i32) (result i32)
    unreachable))
