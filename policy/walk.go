package policy

// place is where something stands in a file.
type place struct {
	file      string
	line, col int
}
