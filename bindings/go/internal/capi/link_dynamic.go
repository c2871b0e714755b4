//go:build !tenure_static

package capi

// #cgo pkg-config: tenure
import "C"

// Static tells whether the library is a part of the program.
const Static = false
