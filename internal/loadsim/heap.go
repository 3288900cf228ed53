package loadsim

import "time"

// event is something that will happen.
type event struct {
	at     time.Duration
	kind   eventKind
	epoch  int // of a shared backend
	gate   int
	r      *Request
	source *Source
}

// heap is a binary heap of events. container/heap would cost a run half of its time in
// interface conversions.
type heap []event

func (h *heap) push(e event) {
	*h = append(*h, e)
	a, i := *h, len(*h)-1
	for i > 0 && a[i].at < a[(i-1)/2].at {
		a[i], a[(i-1)/2] = a[(i-1)/2], a[i]
		i = (i - 1) / 2
	}
}

func (h *heap) pop() event {
	a := *h
	top, last := a[0], len(a)-1
	a[0] = a[last]
	a[last] = event{}
	a = a[:last]
	*h = a
	for i := 0; ; {
		least := i
		for child := 2*i + 1; child <= 2*i+2 && child < last; child++ {
			if a[child].at < a[least].at {
				least = child
			}
		}
		if least == i {
			return top
		}
		a[i], a[least] = a[least], a[i]
		i = least
	}
}

type sharedHeap []*Request

func (h *sharedHeap) push(r *Request) {
	*h = append(*h, r)
	a, i := *h, len(*h)-1
	for i > 0 && a[i].finish < a[(i-1)/2].finish {
		a[i], a[(i-1)/2] = a[(i-1)/2], a[i]
		i = (i - 1) / 2
	}
}

func (h *sharedHeap) pop() *Request {
	a := *h
	top, last := a[0], len(a)-1
	a[0] = a[last]
	a[last] = nil
	a = a[:last]
	*h = a
	for i := 0; ; {
		least := i
		for child := 2*i + 1; child <= 2*i+2 && child < last; child++ {
			if a[child].finish < a[least].finish {
				least = child
			}
		}
		if least == i {
			return top
		}
		a[i], a[least] = a[least], a[i]
		i = least
	}
}
