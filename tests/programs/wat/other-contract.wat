;; A valid component for another contract: a major version that does not exist yet.
(component
  (core module $module
    (memory (export "memory") 1)
    (data (i32.const 0) "other-contract")
    ;; The result of `describe`: address and length of the text.
    (data (i32.const 16) (i32 0 14))
    (func (export "describe") (result i32)
      (i32.const 16)))
  (core instance $instance (instantiate $module))

  ;; In this contract the description of a rule is only its name.
  (func $describe (result string)
    (canon lift
      (core func $instance "describe")
      (memory (core memory $instance "memory"))
      string-encoding=utf8))

  (instance $projector (export "describe" (func $describe)))
  (export "belfry:projector/projector@2.0.0" (instance $projector)))
