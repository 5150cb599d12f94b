;; A WebAssembly core module, not a component: the form that compilers write before it is turned into a component.
(module
  (memory (export "memory") 1)
  (func (export "_start")))
