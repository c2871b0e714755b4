module github.com/tenure-election/tenure/bindings/go

go 1.21
