// A rule in Go without generated bindings: it returns no notifications. The numbers are addresses and lengths in the
// layout of the component model's canonical ABI.
package main

import "unsafe"

const (
	name      = "foreign-go"
	version   = "1.0.0"
	summary   = "Accepts events in Go and returns no notifications."
	eventType = "huleedu.ras.batch.results.ready.v1"
)

var (
	subscription [5]uint32
	description  [12]uint32
	answer       [5]uint32
	// Memory that the host fills must not move or be collected during the call; the instance does not outlive it.
	blocks [][]uint64
)

func address[T any](of *T) uint32 { return uint32(uintptr(unsafe.Pointer(of))) }

func text(at []uint32, text string) {
	at[0], at[1] = address(unsafe.StringData(text)), uint32(len(text))
}

//go:wasmexport cabi_realloc
func realloc(old unsafe.Pointer, oldSize, align, size uint32) unsafe.Pointer {
	block := make([]uint64, (size+7)/8+1)
	blocks = append(blocks, block)
	if old != nil {
		copy(unsafe.Slice((*byte)(unsafe.Pointer(&block[0])), size), unsafe.Slice((*byte)(old), oldSize))
	}
	return unsafe.Pointer(&block[0])
}

//go:wasmexport belfry:projector/projector@1.0.0#describe
func describe() uint32 {
	text(subscription[:], eventType)
	text(description[0:], name)
	text(description[2:], version)
	text(description[4:], summary)
	description[6], description[7] = address(&subscription), 1
	return address(&description)
}

//go:wasmexport belfry:projector/projector@1.0.0#check-config
func checkConfig() uint32 { return address(&answer) }

//go:wasmexport belfry:projector/projector@1.0.0#project
func project(arguments uint32) uint32 { return address(&answer) }

func main() {}
