;; The first of the second, in percent. It traps where the second is zero, and gives nothing where either is missing.
(module
  (func (export "call") (param $part f64) (param $whole f64) (result f64)
    (if (f64.eq (local.get $whole) (f64.const 0)) (then unreachable))
    (f64.div (f64.mul (local.get $part) (f64.const 100)) (local.get $whole))))
