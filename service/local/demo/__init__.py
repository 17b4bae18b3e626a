"""`greenpoints demo`: a finite, narrated story on a temporary system, with real payload shapes in and a picture of what happened out."""
