module github.com/tenure-election/tenure/tests/conformance/drivers/go

go 1.21

require github.com/tenure-election/tenure/bindings/go v0.0.0

replace github.com/tenure-election/tenure/bindings/go => ../../../../bindings/go
