;; WebAssembly, but a module and no component: what compilers write before a component is made of it.
(module
  (memory (export "memory") 1)
  (func (export "_start")))
