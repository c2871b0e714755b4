module tenure.example

go 1.21

require github.com/tenure-election/tenure/bindings/go v0.1.0

// The package of this repository, whatever is published.
replace github.com/tenure-election/tenure/bindings/go => ../../bindings/go
