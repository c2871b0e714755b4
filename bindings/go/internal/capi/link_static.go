//go:build tenure_static

package capi

// #cgo pkg-config: tenure-static
import "C"

// Static tells whether the library is a part of the program.
const Static = true
