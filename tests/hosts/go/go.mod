module github.com/tenure-election/tenure/tests/hosts/go

go 1.22

require github.com/tenure-election/tenure/bindings/go v0.0.0

replace github.com/tenure-election/tenure/bindings/go => ../../../bindings/go
