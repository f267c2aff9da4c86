package onedata

// InvalidSpecs are bodies, with the id and the details of the answer.
func InvalidSpecs() (out [][3]string) {
	for _, s := range invalidSpecs {
		out = append(out, [3]string{s.body, s.id, s.details})
	}
	return out
}
