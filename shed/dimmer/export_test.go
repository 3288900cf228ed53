package dimmer

// Controller is the algorithm, for tables and fuzzing.
type Controller struct{ c controller }

// NewController is at the beginning.
func NewController() *Controller { return &Controller{newController()} }

// Measured and the others are those of controller.
func (c *Controller) Measured(level float64) { c.c.measured(level) }
func (c *Controller) Missed(n int64)         { c.c.missed(n) }
func (c *Controller) Share() float64         { return c.c.share }
func (c *Controller) Blind() int64           { return c.c.blind }
