"""Files of data from outside, which are never trusted: tables, pictures, arrays, CIFAR-10."""
