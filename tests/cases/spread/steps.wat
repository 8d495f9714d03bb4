(module
  (func (export "call") (param $t f64) (param $n f64) (result f64) (local $left f64) (local $sum f64)
    (if (f64.lt (local.get $t) (f64.const 0)) (then unreachable))
    (local.set $left (f64.const 20000))
    (loop $again
      (local.set $sum (f64.add (local.get $sum) (local.get $t)))
      (local.set $left (f64.sub (local.get $left) (f64.const 1)))
      (br_if $again (f64.gt (local.get $left) (f64.const 0))))
    (f64.add (local.get $sum) (local.get $n))))
