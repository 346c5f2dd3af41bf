"""K nearest neighbours, exact as float64 brute force and computed in MindSpore tiles."""
