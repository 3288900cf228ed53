package hop

// Asked returns s if key is what [SenderOf] asks a context for, and otherwise nil: for a
// context type of an adapter's own, which has a Sender among other things and would
// otherwise need another one around it.
func (s *Sender) Asked(key any) any {
	if key == (senderKey{}) {
		return s
	}
	return nil
}
